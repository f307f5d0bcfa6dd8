"""Ask a teacher, train a student on the answers, score it and fit the copy curve."""
