"""Scores of predictions: of classes and values (`glue`), and of texts (`text`)."""
