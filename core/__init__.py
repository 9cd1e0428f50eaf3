"""What every part shares and that knows no other part: errors, typed config, measurements, safe file writes."""
