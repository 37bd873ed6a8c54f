"""Uses the Python client that OpenAPI Generator has generated, as a shop's backend would.

Usage: generator_client.py ADDRESS PRODUCT, with the generated package `flashsale` on the path. The product has two
units.
"""

import sys

import flashsale

address, product_id = sys.argv[1], int(sys.argv[2])
configuration = flashsale.Configuration(host=address)

with flashsale.ApiClient(configuration) as client:
    reservations = flashsale.ReservationsApi(client)

    def reserve(user_id, quantity, key):
        body = flashsale.CreateReservation(product_id=product_id, user_id=user_id, quantity=quantity)
        return reservations.reserve_product(body, idempotency_key=key)

    hold = reserve(42, 2, "first")
    assert hold.status == flashsale.Status.ACTIVE, hold
    assert reserve(42, 2, "first").id == hold.id
    try:
        reserve(43, 1, "second")
        raise AssertionError("a unit too many")
    except flashsale.exceptions.ConflictException as refused:
        assert isinstance(refused.data, flashsale.Problem), refused.data
        assert refused.data.code == flashsale.Code.SOLD_OUT and refused.data.stock == 0, refused.data
    sold = reservations.confirm_reservation(hold.id, payment=flashsale.Payment(reacquire=True))
    assert sold.status == flashsale.Status.CONFIRMED, sold
    assert reservations.return_reservation(hold.id).status == flashsale.Status.RETURNED
    for user_id in (44, 45):
        reserve(user_id, 1, f"of-{user_id}")
    listed, after = [], None
    while True:
        page = reservations.list_reservations_with_http_info(product_id=product_id, limit=1, after_id=after)
        listed += page.data
        if "link" not in {name.lower() for name in page.headers}:
            break
        after = page.data[-1].id
    assert [reservation.user_id for reservation in listed] == [45, 44, 42], listed
    assert flashsale.ProductsApi(client).get_product(product_id).held == 2
    assert flashsale.AdministrationApi(client).list_dead_events() == []
