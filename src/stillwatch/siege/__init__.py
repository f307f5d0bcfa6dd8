"""The contest on loopback: users, a campaign, the wall and the moat report."""
