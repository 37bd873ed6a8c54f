#!/usr/bin/env python3
"""A shop's backend: it holds units for a user, waits for the payment, and confirms.

Usage: shop.py PRODUCT USER [QUANTITY]
FLASHSALE_URL is the address of the API, FLASHSALE_API_KEY its key, if it wants one. Pressing Enter stands for the
message of the payment provider. Python 3.9 or later runs it without other packages.
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid

ADDRESS = os.environ.get("FLASHSALE_URL", "http://127.0.0.1:8080")
API_KEY = os.environ.get("FLASHSALE_API_KEY")

# An answer usually takes milliseconds. Without one after this time, it counts as lost.
TIMEOUT_SECONDS = 3
# A user waits no longer for a reserve. A payment that is not confirmed by then must be tried again later.
GIVE_UP_SECONDS = 60


class Refused(Exception):
    """The service has decided. A retry would get the same answer."""

    def __init__(self, problem):
        super().__init__(f"{problem['code']}: {problem['detail']}")
        self.problem = problem


class NoAnswer(Exception):
    """Nobody knows whether the request was done."""


def post(path, body, key):
    """Sends a request until it has an answer. The key makes repeats safe: a repeat gets the first answer again."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    if API_KEY:
        headers["Authorization"] = f"Bearer {API_KEY}"
    give_up = time.monotonic() + GIVE_UP_SECONDS
    pause = 0.1
    while True:
        request = urllib.request.Request(ADDRESS + path, json.dumps(body).encode(), headers, method="POST")
        wanted = pause
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = problem_of(error)
            if not may_be_repeated(error.code, problem["code"]):
                raise Refused(problem) from None
            reason = problem["code"]
            wanted = max(pause, float(error.headers.get("Retry-After", 0)))
        except (OSError, http.client.HTTPException) as error:
            reason = f"no answer: {error}"
        if time.monotonic() + wanted > give_up:
            raise NoAnswer(reason)
        print(f"trying again: {reason}", file=sys.stderr, flush=True)
        # At random, so that the clients of an overloaded service do not all come back at the same moment.
        time.sleep(wanted * random.uniform(1, 1.5))
        pause = min(pause * 2, 5)


def may_be_repeated(status, code):
    # 503 says that the service is overloaded, or that the outcome is unknown. A proxy answers 502 or 504.
    return status in (408, 500, 502, 503, 504) or code == "idempotency_key_in_use"


def problem_of(error):
    try:
        return json.load(error)
    except (ValueError, OSError, http.client.HTTPException):
        return {"code": f"http_{error.code}", "detail": "the answer is not a Problem; a proxy may have made it"}


def reserve(product, user, quantity, order):
    """Holds units for an order. `order` is stored before the first request, and so is the key that is made of it."""
    body = {"product_id": product, "user_id": user, "quantity": quantity, "reference": order}
    try:
        return post("/reservations", body, f"reserve-{order}")["id"]
    except Refused as refused:
        # The user has another order that still holds this product: continue with that hold.
        if refused.problem["code"] == "already_reserved":
            return refused.problem["reservation_id"]
        raise


def confirm(reservation, order):
    """Sells the units after the user has paid. If the deadline has passed, the units are taken again if any are free."""
    return post(f"/reservations/{reservation}/confirm", {"reacquire": True}, f"confirm-{order}")


def main(product, user, quantity=1):
    order = str(uuid.uuid4())
    try:
        reservation = reserve(product, user, quantity, order)
    except Refused as refused:
        # For example sold_out, sale_not_open or max_per_user_reached: tell the user.
        print(f"refused {refused.problem['code']}", flush=True)
        return
    print(f"held {reservation}", flush=True)
    sys.stdin.readline()
    try:
        sold = confirm(reservation, order)
    except Refused as refused:
        # The payment came too late, and the units are gone. Also if the user has canceled meanwhile.
        print(f"refund {refused.problem['code']}", flush=True)
        return
    # A late payment sells the units under a new id.
    print(f"sold {sold['id']}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
