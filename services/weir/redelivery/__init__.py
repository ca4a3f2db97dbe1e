"""Find, show, edit and resend letters: dead letters and rejected events."""
