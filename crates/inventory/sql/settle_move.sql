-- Settles in the new cell how a move ends: ARRIVED or UNDONE, once. Returns how it ends, and whether this call has
-- settled it. A second call waits until the first one's transaction has ended. Before an arrival, it deletes what an
-- earlier move has left here of the product.
create or replace function settle_move_v1(
  move_id uuid, product_id bigint, to_cell integer, wanted text, out status text, out is_new boolean
)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  -- settle move: if it is not settled
  insert into product_moves (id, product_id, status, to_cell, changed_at)
  values (move_id, settle_move_v1.product_id, wanted, settle_move_v1.to_cell,
    move_time_v1(settle_move_v1.product_id, null))
  on conflict (id) do nothing;
  is_new := found;
  -- settle move: how it ends
  select m.status into status from product_moves m where m.id = move_id;
  if is_new and status = 'ARRIVED' then
    -- settle move: forget_moved_v1 must not delete what arrives
    perform from product_moves m where m.product_id = settle_move_v1.product_id for update;
    -- settle move: what an earlier move has left
    delete from reservations_ended r
    where r.product_id = settle_move_v1.product_id and r.created_at > '-infinity' -- selects the index
      and not exists (select from products p where p.id = settle_move_v1.product_id);
  end if;
end
$$;
