"""The copy curve through scored students, and how long a lead lasts."""
