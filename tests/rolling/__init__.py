"""Every service is restarted, one replica after the other, while a large load and many small ones go on."""
