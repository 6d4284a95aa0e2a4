"""What more machines would do: a model of the measured parts."""
