"""What an attack maximises. A module here registers objectives by being here."""
