def measure_http(url: str, count: int) -> dict[str, float]:
    return {}
