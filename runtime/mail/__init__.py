"""Letters to people: written in their language, carried by SMTP or kept in a folder."""
