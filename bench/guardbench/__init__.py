"""The gateway beside LiteLLM's proxy and beside no gateway, over one mock model server."""
