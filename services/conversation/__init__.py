"""ConversationService: what was said, with whom, and what people note about it."""
