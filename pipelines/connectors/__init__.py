"""What the dataflows speak to: the transport, the jobs and products services, the blob store."""
