"""How the embedded tavern model is made: corpus generator, tokenizer, training and evaluation."""
