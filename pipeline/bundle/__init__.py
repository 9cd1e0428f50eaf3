"""A run's model as a file to hand over: one zip with the model, what runs it, and what is known of it."""
