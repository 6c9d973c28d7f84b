"""What ``bench/serving.py`` measures, and the server that it measures."""
