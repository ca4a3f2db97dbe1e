"""Letters: what died or was refused, found, shown, edited and sent in again."""
