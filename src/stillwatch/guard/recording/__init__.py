"""What is kept of it all: exchanges, the audit log, and every decision taken again."""
