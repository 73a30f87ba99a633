"""Characters, prompts, history and the text of lines: everything between a player's words and token ids, and back."""
