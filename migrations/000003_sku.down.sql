alter table products drop column sku;
drop domain product_sku;
update schema_version set version = 1;
