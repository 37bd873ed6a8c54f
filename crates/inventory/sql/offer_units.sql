-- Gives the free units of a product to those who wait for them: the first in line get a hold each. Also closes the
-- line after the end of the sale. Returns the ids of the holds. The caller must hold the product's lock and must have
-- read t after locking.
--
-- One call ends at most 1,000 entries. If more could be ended, the line is due at once, and the expirer goes on.
create or replace function offer_units_v1(product_id bigint, t timestamptz, events text[])
returns bigint[]
language plpgsql
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  product products;
  entries waitlist_entries[];
  refused bigint[];
  holds bigint[] := '{}'::bigint[];
  finished boolean;
  due timestamptz;
begin
  for pass in 1 .. 4 loop
    -- offer: read the product
    select * into product from products p where p.id = offer_units_v1.product_id;
    finished := product.waiting = 0 or (product.sale_starts_at > t) is true
      or product.stock = 0 and (product.sale_ends_at <= t) is not true;
    exit when finished;

    -- offer: the first in line
    select coalesce(array_agg(l.entry order by (l.entry).id) filter (where l.allowed), '{}'),
      coalesce(array_agg((l.entry).id) filter (where not l.allowed), '{}')
    into entries, refused
    from first_in_line_v1(
      product, t, case when product.sale_ends_at <= t then 250 else least(product.stock, 240) + 10 end
    ) l;
    finished := cardinality(entries) = 0 and cardinality(refused) = 0;
    exit when finished;
    holds := holds || offer_entries_v1(product, entries, refused, t, events);
  end loop;

  due := case
    when not finished then t
    when product.waiting = 0 then null
    when product.sale_starts_at > t then product.sale_starts_at
    when product.sale_ends_at > t then product.sale_ends_at
  end;
  -- offer: when the expirer must look at the line
  update waitlists w
  set due_at = due, offered = w.offered + cardinality(holds)
  where w.product_id = offer_units_v1.product_id
    and (w.due_at is distinct from due or holds <> '{}');
  return holds;
end
$$;
