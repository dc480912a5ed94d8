"""Speed, as ratios measured in one run against the limit or the peer that each bar names."""
