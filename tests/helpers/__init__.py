"""What several tests share: tiny models, loopback servers, folders and records."""
