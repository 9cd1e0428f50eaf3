"""Where training segments and evaluation pairs come from."""
