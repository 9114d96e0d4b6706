"""Questions and how they are measured: one file a question; a measure yields records and knows no table."""
