"""Where blobs are kept."""


def tenant_key(tenant: str, key: str) -> str:
    """A key among those of a tenant, which shares no blob with the others."""
    return f"{tenant}/{key}"


def page_key(tenant: str, name: str) -> str:
    """The key of a page's image or thumbnail, whose name is its digest and extension."""
    return tenant_key(tenant, f"pages/{name[:2]}/{name}")
