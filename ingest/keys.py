"""Where blobs are kept."""


def tenant_key(tenant: str, key: str) -> str:
    """A key among those of a tenant, which shares no blob with the others."""
    return f"{tenant}/{key}"


def page_key(tenant: str, name: str) -> str:
    """The key of a page's image or thumbnail, whose name is its digest and extension."""
    return tenant_key(tenant, f"pages/{name[:2]}/{name}")


def picture_key(tenant: str, sha256: str) -> str:
    """The key of a person's or an organisation's picture, by its digest."""
    return tenant_key(tenant, f"pictures/{sha256[:2]}/{sha256}.webp")
