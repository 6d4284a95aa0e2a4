"""Whether image, compose file and chart are what they should be, without a container engine."""
