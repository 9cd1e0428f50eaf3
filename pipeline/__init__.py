"""The staged pipeline: recipe, artifact store, stages, data, metrics and the command line."""
