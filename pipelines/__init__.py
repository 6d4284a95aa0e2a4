"""The executor: Bytewax dataflows that plan inputs and load batches."""
