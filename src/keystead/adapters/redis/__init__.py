"""What several processes share in Redis or Valkey: buckets and windows."""
