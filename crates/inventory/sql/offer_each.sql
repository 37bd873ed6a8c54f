-- Gives the free units of these products to those who wait for them (see offer_units). Returns the ids of all holds.
-- The caller must hold the products' locks and must have read t after locking.
--
-- One call ends about 1,000 entries of all lines together. The other lines are due at once, and the expirer goes on.
create or replace function offer_each_v1(product_ids bigint[], t timestamptz, events text[])
returns bigint[]
language plpgsql
as $$
#variable_conflict use_column
declare
  this_id bigint;
  before integer;
  ended integer := 0;
  offered bigint[] := '{}'::bigint[];
begin
  foreach this_id in array product_ids loop
    if ended < 1000 then
      -- offer each: how many wait
      select p.waiting into before from products p where p.id = this_id;
      offered := offered || offer_units_v1(this_id, t, events);
      -- offer each: how many are left
      select ended + before - p.waiting into ended from products p where p.id = this_id;
    else
      -- offer each: what the expirer must look at
      update waitlists w set due_at = t where w.product_id = this_id and (w.due_at <= t) is not true;
    end if;
  end loop;
  return offered;
end
$$;
