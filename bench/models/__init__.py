"""Models through whole systems over HTTP: this project beside LitServe, with every answer compared."""
