"""Where blobs are kept."""


def page_key(name: str) -> str:
    """The key of a page's image or thumbnail, whose name is its digest and extension."""
    return f"pages/{name[:2]}/{name}"
