"""Numbers: measured (records), published (references), and the tables that put them side by side."""
