drop index reservations_by_product;
