"""Speech-quality measures, scored in worker processes that survive a crashing metric library."""
