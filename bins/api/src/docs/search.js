// The search: shows only the operations, problems, events and schemas that contain all words.

export function openSearch() {
  const field = document.getElementById('search');
  const found = document.getElementById('found');
  const parts = [...document.querySelectorAll('main article[id], main tbody tr[id]')].map((node) => ({
    node,
    // The name of an operation is only in its id.
    text: `${node.id} ${node.textContent}`.toLowerCase(),
    links: document.querySelectorAll(`nav a[href="#${CSS.escape(node.id)}"]`),
  }));
  const sections = [...document.querySelectorAll('main section')];
  field.addEventListener('input', () => {
    const words = field.value.toLowerCase().split(/\s+/).filter((word) => word !== '');
    let count = 0;
    for (const { node, text, links } of parts) {
      const fits = words.every((word) => text.includes(word));
      node.hidden = !fits;
      for (const link of links) link.parentElement.hidden = !fits;
      count += fits;
    }
    for (const section of sections) {
      const items = [...section.querySelectorAll('article[id], tbody tr[id]')];
      section.hidden = items.length > 0 && items.every((item) => item.hidden);
    }
    found.textContent = words.length === 0 ? '' : `${count} found`;
  });
  // As on many pages of documentation: a slash leads to the search.
  document.addEventListener('keydown', (event) => {
    const types = event.target.closest('input, textarea');
    if (event.key !== '/' || types || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    field.focus();
  });
  document.getElementById('search-box').hidden = false;
}
