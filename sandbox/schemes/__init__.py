"""From what the user wrote after --rmap to a scheme's class, and from its exception to a line that names its file."""
