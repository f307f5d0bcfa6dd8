"""What the people who run a gateway see and do: pages, a JSON API, metrics."""
