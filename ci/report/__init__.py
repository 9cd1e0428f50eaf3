"""Renderers of one run and its verdicts: terminal table, JSON, Markdown, JUnit XML. Pure: data in, text out."""
