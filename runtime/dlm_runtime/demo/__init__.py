"""The demonstration behind `dlm-demo`: a real server, a real channel, a room full of characters."""
