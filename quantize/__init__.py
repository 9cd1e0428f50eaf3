"""From a torch network to float and integer streaming .tflite files, with parity reports."""
