"""What several gateways share through Redis; nothing of it is loaded without `[shared]`."""
