"""Self-contained HTML: no scripts, no network, light and dark, readable on a phone."""
