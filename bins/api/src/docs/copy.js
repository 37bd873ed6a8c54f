// A button at each block of code, which copies its text.

const SHOWN_MILLISECONDS = 2_000;

export function addCopyButtons(root) {
  for (const block of root.querySelectorAll('pre')) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', className: 'copy', textContent: 'Copy' });
    button.addEventListener('click', async () => {
      const copied = await copy(block);
      button.textContent = copied ? 'Copied' : 'Press Ctrl+C';
      setTimeout(() => { button.textContent = 'Copy'; }, SHOWN_MILLISECONDS);
    });
    block.before(button);
  }
}

/** Copies the text of a block. If the browser does not allow it, the text is selected, so that the user can copy it. */
async function copy(block) {
  try {
    // Only over HTTPS and on this machine.
    await navigator.clipboard.writeText(block.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(block);
    return false;
  }
}
