"""Write clicks.csv: 2,000 rows whose clicks depend on every column but the id.

python data/make_clicks.py > data/clicks.csv
"""

from __future__ import annotations

import math
import random

NUM_ROWS = 2000
SEED = 7
DEVICES = {"phone": 0.3, "desktop": -0.3, "tablet": 0.1, "tv": -0.8}
TAGS = {"sale": 1.1, "new": 0.5, "used": -0.7, "gift": 0.3, "bulk": -1.2, "eco": 0.0}


def main() -> None:
    """Print the table."""
    draw = random.Random(SEED)
    shops = {f"shop_{number}": draw.gauss(0, 0.9) for number in range(60)}
    popularity = [1 / (rank + 2) for rank in range(len(shops))]
    print("impression_id,device,shop,tags,price,visits,clicked")
    for row in range(NUM_ROWS):
        device = draw.choice(list(DEVICES))
        shop = draw.choices(list(shops), popularity)[0]
        tags = draw.sample(list(TAGS), draw.choice([0, 1, 1, 2, 2, 3]))
        price = round(draw.lognormvariate(3, 0.8), 2)
        visits = int(draw.expovariate(0.15))
        logit = DEVICES[device] + shops[shop] + sum(TAGS[tag] for tag in tags)
        logit += 0.5 * math.log1p(visits) - 0.6 * (math.log(price) - 3) - 1.6
        clicked = int(draw.random() < 1 / (1 + math.exp(-1.3 * logit)))
        # Some prices are not known.
        shown = "" if draw.random() < 0.03 else f"{price:.2f}"
        name = f"imp{100_000 + row}"
        values = (name, device, shop, "|".join(tags), shown, visits, clicked)
        print(*values, sep=",")


if __name__ == "__main__":
    main()
