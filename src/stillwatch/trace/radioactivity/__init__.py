"""Did a suspect learn from answers that carry a mark: closed, weighted, open, supervised."""
