"""The command `zoo`: a dispatch table, and one module per command."""
