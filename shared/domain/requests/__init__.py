"""What a request may hold: inputs, params, chats and grammars as checked values."""
