"""arm64 containers: the image that ships to a Pi-class board, run within the limits that it will have there."""
