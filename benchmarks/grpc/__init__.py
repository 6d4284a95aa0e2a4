"""What gRPC costs between executor and products."""
